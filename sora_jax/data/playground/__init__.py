"""The playground: a small world drawn from integers, with captions and an oracle that reads its pixels."""
