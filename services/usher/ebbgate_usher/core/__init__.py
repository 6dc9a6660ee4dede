"""PURE: who a token's owner is, what the server is answered, what of the credentials is due."""
