"""Whom to ask for street views, and the HTTP client with its rate limit and credentials."""
