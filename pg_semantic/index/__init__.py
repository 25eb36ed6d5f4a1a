"""What is indexed, as plain data and as DDL: the declaration, the spec, keys, tables, triggers, and SQL expressions."""
