"""What every driver of an agent shares, the runner that executes and the reader that replays alike."""
