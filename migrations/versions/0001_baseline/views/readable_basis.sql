-- The bases of prefixes, for roles that can read all rows: they summarize the vectors of rows of all kinds. Searches of
-- other roles are exact.
CREATE VIEW semantic.readable_basis WITH (security_barrier) AS
SELECT * FROM semantic.basis WHERE semantic.sees_all_rows_v1(generation_id);
