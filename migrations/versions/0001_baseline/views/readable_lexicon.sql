-- Statistics of BM25: the number of rows and their average length, for roles that can read all rows. A view, not a policy
-- on the table: pg_dump stops at a table with policies unless its role can bypass them.
CREATE VIEW semantic.readable_lexicon WITH (security_barrier) AS
SELECT * FROM semantic.lexicon
WHERE generation_id IN (SELECT id FROM semantic.generation WHERE semantic.sees_all_rows_v1(id));
