"""Benchmarks: ratios measured side by side in one run, with the limit or a plain rendering beside ours."""
