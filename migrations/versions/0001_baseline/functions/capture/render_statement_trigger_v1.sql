-- The body of the function of the four statement triggers.
CREATE FUNCTION semantic.render_statement_trigger_v1(places jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    is_changed text := '{other_row} OR ({new_text}) IS DISTINCT FROM ({old_text}) {or_other_key}';
    changed text := $template$
        WITH changed AS MATERIALIZED (
            SELECT {new_key} AS key, {other_row} AS moved
            FROM new_rows FULL JOIN old_rows ON {same_key}
            WHERE {is_changed}
        ),
        any_row AS MATERIALIZED (
            SELECT EXISTS (SELECT FROM changed WHERE moved) AS moved
        )$template$;
    changed_rows text := $template$
                SELECT key FROM changed WHERE NOT (SELECT moved FROM any_row)
                UNION ALL
                SELECT {new_key} FROM new_rows WHERE (SELECT moved FROM any_row)
            $template$;
BEGIN
    places := places || jsonb_build_object('is_changed', semantic.render_template_v1(is_changed, places));
    RETURN semantic.render_template_v1(semantic.statement_trigger_body_v1(), places || jsonb_build_object(
        'inserted', semantic.render_template_v1(
            semantic.insert_marks_sql_v1('SELECT {new_key} FROM new_rows'), places),
        'updated', semantic.render_template_v1(changed || semantic.insert_marks_sql_v1(changed_rows), places),
        'deleted', semantic.render_template_v1(
            semantic.insert_marks_sql_v1('SELECT {old_key} FROM old_rows'), places)
    ));
END
$body$;
