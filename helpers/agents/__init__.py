"""Agents: the shipped program, the sessions that drive it, and their deployment."""
