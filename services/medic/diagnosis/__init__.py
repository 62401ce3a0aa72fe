"""Ask a command or a language model what is wrong, where the ladder ended; its answer is only a proposal."""
