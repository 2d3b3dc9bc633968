"""What can be said to each sub-command of ``ptychopinn``: its description and its options.

Nothing here, nor what it imports, loads NumPy or anything else that takes long: ``--help``, the completion of
a shell and the refusal of an option need no more than this.
"""
