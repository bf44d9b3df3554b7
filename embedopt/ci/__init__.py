"""What runs on a runner of GitHub."""
