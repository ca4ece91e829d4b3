"""A pool of processes, each with a router of its own.

python -m examples.process_pool spawn    # or fork, or forkserver
"""
