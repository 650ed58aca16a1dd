"""Our speed beside the peers', measured in one run: python -m tests.benchmarks NAME --rows N --workers W --json"""
