-- Which queries are held out from tuning and training, and which are not. A query keeps its side, so that what is
-- measured with the held-out queries was never learned from them, through any index of the table. Only a hash is stored,
-- but a short query can be guessed from it, so only the owner of the schema can read the table. Roles that read an index
-- of the table can ask for given hashes whether they are held out: see held_out_queries_v1.
CREATE TABLE semantic.judged_query (
    table_id integer NOT NULL REFERENCES semantic.judged_table ON DELETE CASCADE,
    query_hash bytea NOT NULL,
    held_out boolean NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_id, query_hash)
);
