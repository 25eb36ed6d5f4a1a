-- The template of the function of the row trigger, which marks rows that logical replication, or a session with
-- session_replication_role = replica, has changed. Foreign keys don't follow these changes, so a row whose key changed is
-- marked under both keys, and a row whose policy column changed is marked too. A missing column must not stop the
-- subscription: the function then leaves a mark without a key, and all rows are compared again once the index fits.
CREATE FUNCTION semantic.row_trigger_body_v1() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN $template$
DECLARE
    old_rows ALIAS FOR old;
    new_rows ALIAS FOR new;
    marked text[];
BEGIN
    BEGIN
        IF TG_OP = 'INSERT' THEN
            marked := ARRAY[{new_key}];
        ELSIF TG_OP = 'DELETE' THEN
            marked := ARRAY[{old_key}];
        ELSIF ({new_key}) COLLATE "C" <> ({old_key}) COLLATE "C" THEN
            marked := ARRAY[{old_key}, {new_key}];
        ELSIF ({new_text}) IS DISTINCT FROM ({old_text}) {or_policy_column} THEN
            marked := ARRAY[{new_key}];
        END IF;
    EXCEPTION WHEN undefined_column THEN
        marked := ARRAY[NULL];
    END;
    INSERT INTO semantic.mark (generation_id, key)
    SELECT generation.id, marked_row.key
    FROM unnest(CAST('{generations}' AS integer[])) AS generation (id)
    CROSS JOIN unnest(marked) AS marked_row (key);
    RETURN NULL;
END
$template$;
