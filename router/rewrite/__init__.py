"""Pure: from one SELECT to a statement for every shard, and how to merge what they give."""
