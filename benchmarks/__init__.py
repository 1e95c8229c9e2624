"""The whole program beside its peers, on one emulator: `python -m benchmarks all`. See README.md."""
