-- Statistics of BM25: how many rows contain a lexeme, for roles that can read all rows.
CREATE VIEW semantic.readable_term WITH (security_barrier) AS
SELECT * FROM semantic.term
WHERE generation_id IN (SELECT id FROM semantic.generation WHERE semantic.sees_all_rows_v1(id));
