"""What is indexed, as plain data and as DDL: declaration, spec, keys, tables, triggers and SQL expressions."""
