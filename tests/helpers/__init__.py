"""What several test files build: tiny datasets, networks, runs and exports."""
