"""The pages for a person at a browser: search, status, recall and map. `layout` mounts them; each noun has its router.

A page is a shell without data, open to all who reach the service; what is in it comes by htmx, with the key if there is
one.
"""
