"""Operations that a person runs: create, status, verify, repair, doctor. A worker never imports this package."""
