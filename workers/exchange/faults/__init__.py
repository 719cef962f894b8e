"""Faults on command: what they are called, when they strike, and what they do. Every one that strikes is journaled."""
