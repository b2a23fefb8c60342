"""What every training of this repository uses."""
