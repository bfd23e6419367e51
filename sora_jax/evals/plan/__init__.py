"""What an experiment would need and cost on machines that aren't there: the very program, compiled without them."""
