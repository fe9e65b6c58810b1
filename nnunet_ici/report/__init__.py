"""``nnunet_ici report``: one HTML page from the output of ``nnunet_ici evaluate``.

Modules: reading and training (files to data), charts of cases, lesions and training (matplotlib), slices (SVG), and the
page with its templates in ``templates/``. Other packages use the command. Nothing is exported.
"""
