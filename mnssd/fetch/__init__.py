"""Downloads: https only, checked by SHA-256, resumable; and unpacking of archives."""
