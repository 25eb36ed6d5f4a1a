"""The web pages: search, status, recall and map. `layout` mounts them; each has a router.

A page is a shell without data that anyone who reaches the service can load. Its content is fetched by htmx, with the
key if the service has one.
"""
