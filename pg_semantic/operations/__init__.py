"""What an operator asks for: create, status, verify, repair, doctor. A worker never imports it."""
