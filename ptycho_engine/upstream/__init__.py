"""Names, configurations and files of the original PtychoPINN."""
