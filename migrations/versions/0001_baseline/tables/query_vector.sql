CREATE TABLE semantic.query_vector (
    encoder_id bigint NOT NULL REFERENCES semantic.encoder ON DELETE CASCADE,
    text_hash bytea NOT NULL,
    vector real[] NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (encoder_id, text_hash)
);

CREATE INDEX query_vector_made_idx ON semantic.query_vector (made_at);
