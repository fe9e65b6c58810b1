"""What the terms cost, beside nnU-Net's own loss."""
