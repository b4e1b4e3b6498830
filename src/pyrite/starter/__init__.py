"""Starter files for a user's own data: what is in the files, and a commented file for a verb that fits them."""
