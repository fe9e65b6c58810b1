"""From trained models to a verdict: ``nnunet_ici compare``."""
