"""The machine and the process: environment check, processor, thread settings, context, seeds, plugins."""
