-- Replaces the names in braces in a template, in one pass: the replacements are not searched again.
CREATE FUNCTION semantic.render_template_v1(template text, places jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT string_agg(concat(piece[1], places ->> piece[2]), '' ORDER BY number)
    FROM regexp_matches(concat(template, '{}'), '(.*?)[{]([[:alnum:]_]*)[}]', 'g')
        WITH ORDINALITY AS found (piece, number)
);
