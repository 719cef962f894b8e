"""The storm: many signals through many processes at once, while processes are killed and the database restarts.

`python -m tests.storm --signals 10000`. At every commit the exposure is recomputed by the database itself.
"""
