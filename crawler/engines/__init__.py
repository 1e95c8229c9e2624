"""Who crawls which targets. Never how: no paging, retrying or writing here."""
