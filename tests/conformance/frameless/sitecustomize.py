"""With this folder on PYTHONPATH, Python finds neither PyTorch nor TensorFlow, in children too."""

import sys


class _Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'tensorflow', 'keras'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
        return None


sys.meta_path.insert(0, _Missing())
