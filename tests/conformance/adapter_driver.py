"""Runs inside one Ptychodus release: its products become the engine's, without a file between them.

Usage: adapter_driver.py FOLDER. Each ``ours-*.h5`` of the folder is read by the release, converted in memory
by the adapter, and what came of it is written as ``adapted-*.h5``.
"""

import sys
from pathlib import Path

from ptychodus.plugins.h5_product_file import H5ProductFileIO

from ptycho_engine.formats.product import write_product
from ptychopinn_ptychodus.conversion import product_data

for path in sorted(Path(sys.argv[1]).glob('ours-*.h5')):
    product = H5ProductFileIO().read(path)
    write_product(path.with_name(path.name.replace('ours', 'adapted')), product_data(product))
