"""Connected components and sums over them."""

from nnunet_ici.instances.components import label_components, labelling_backend
from nnunet_ici.instances.table import InstanceTable, cell_sums, find_instances

__all__ = ["InstanceTable", "cell_sums", "find_instances", "label_components", "labelling_backend"]
