"""``nnunet_ici explain``: how the losses see one label and one prediction, as a picture and as numbers.

Modules: reading (files to arrays), shares (contribution of each instance to each term, computed by the losses
themselves), views, panels and picture (matplotlib), and tables. Other packages use the command. Nothing is exported,
because shares imports torch.
"""
