-- One order with its lines, as JSON: Postgres writes it, for parsing rows only to write them again costs the most.
-- $1 id, $2 subject: another's order is not there
SELECT json_build_object(
    'id', o.id, 'customer_id', o.customer_id, 'status', o.status,
    'total_cents', o.total_cents, 'created_at', o.created_at, 'lines', coalesce((
        SELECT json_agg(json_build_object('line_no', l.line_no, 'product_id', l.product_id, 'name', p.name,
                                          'quantity', l.quantity, 'unit_price_cents', l.unit_price_cents)
                        ORDER BY l.line_no)
          FROM order_lines l JOIN products p ON p.id = l.product_id WHERE l.order_id = o.id), '[]'))::text
  FROM orders o WHERE o.id = $1 AND o.subject = $2
