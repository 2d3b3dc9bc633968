"""PtychoPINN as an algorithm of Ptychodus. Importing it loads neither PyTorch nor TensorFlow."""
