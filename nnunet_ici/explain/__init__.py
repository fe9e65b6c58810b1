"""``nnunet_ici explain``: what the losses see in one label and one prediction, as a picture and in numbers.

Reading (files as arrays), shares (what each instance adds to each term, by the losses themselves), views, panels and
picture (matplotlib), tables. Other rooms use the command; nothing is exported, as the shares need torch.
"""
