"""What `doctor` looks at, and what runs warn of."""
