"""Every use of a private attribute of a library, in one place: a new version of it breaks one file and one test."""
