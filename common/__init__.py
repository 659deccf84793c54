"""What several programs share, one subject a file."""
