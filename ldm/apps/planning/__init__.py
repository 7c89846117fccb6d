"""What a training will cost before it is started: operations, memory, sizes, time, money."""
