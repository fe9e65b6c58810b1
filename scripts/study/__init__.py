"""The study: which loss finds more lesions in nnU-Net under equal conditions."""
