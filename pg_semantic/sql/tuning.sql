-- Tuned search options.

-- name: save
-- Keeps the options tuned for a generation, in place of those of its index. If only the fusion was tuned and it stays
-- the same, the depth of a reranker stays too, because it was tuned on this fusion.
INSERT INTO semantic.tuned_options (index_id, documents, options, evidence)
SELECT index_id, CAST(:documents AS jsonb), CAST(:options AS jsonb), CAST(:evidence AS jsonb)
FROM semantic.generation
WHERE id = :generation
ON CONFLICT (index_id) DO UPDATE
SET documents = excluded.documents, evidence = excluded.evidence, tuned_at = now(),
    options = CASE
        WHEN CAST(:keep_rerank AS boolean) AND tuned_options.documents = excluded.documents
            AND tuned_options.options - 'rerank' = excluded.options
        THEN tuned_options.options
        ELSE excluded.options
    END

-- name: read
-- The options tuned for the index of a live generation, and whether they are for documents like its own.
SELECT options, documents = CAST(:documents AS jsonb) AS is_current, tuned_at
FROM semantic.tuned_options
WHERE index_id = (SELECT index_id FROM semantic.generation WHERE id = :generation)
