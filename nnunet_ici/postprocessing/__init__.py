"""From probabilities to label maps: a threshold and a minimum lesion volume per class, chosen on held-out cases.

``tune`` and the end of every training choose a rule; ``postprocess``, or a checkpoint that carries it, applies it.
"""
