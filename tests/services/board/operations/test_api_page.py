"""The page that shows the API."""

from services.board.operations.api_page import make_api_page
from services.board.templates import TEMPLATES

PATHS = {
    "/api/v1/cache/clear": {
        "post": {
            "description": "Delete the caches.\n\nAnd <b>nothing</b> else.",
            "requestBody": {
                "content": {
                    "application/json": {
                        "schema": {
                            "properties": {"by": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
                            "required": ["by"],
                        }
                    }
                }
            },
            "responses": {"200": {"description": "Done"}, "401": {"description": "A token is needed"}},
        }
    },
    "/api/v1/db/search": {
        "get": {
            "description": "Search.",
            "parameters": [
                {"name": "query", "in": "query", "required": True, "schema": {"type": "string"}},
                {
                    "name": "limit",
                    "in": "query",
                    "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
                },
            ],
            "responses": {},
        }
    },
    "/api/v1/fleet": {"get": {"description": "Return the fleet.", "responses": {}}},
    "/api/v1/services/{svc}": {"get": {"responses": {}}},
    "/health": {"get": {"responses": {}}},
    "/": {"get": {"responses": {}}},
}


def test_the_page_has_each_operation_of_the_api_and_links_those_that_need_nothing():
    page = make_api_page({"info": {"title": "Board", "version": "1"}, "paths": PATHS})
    found = {f"{each.method} {each.path}": each for some in page.groups.values() for each in some}
    assert sorted(found) == [
        *("GET /api/v1/db/search", "GET /api/v1/fleet", "GET /api/v1/services/{svc}", "GET /health"),
        "POST /api/v1/cache/clear",
    ]
    assert {name for name, each in found.items() if each.link} == {"GET /api/v1/fleet", "GET /health"}
    assert [each.kind for each in found["GET /api/v1/db/search"].parameters] == [
        "string",
        "integer, 1 to 100, else 10",
    ]
    assert found["POST /api/v1/cache/clear"].body[0].kind == "string or nothing"
    assert '-H "Authorization: Bearer $TOKEN"' in found["POST /api/v1/cache/clear"].command


def test_the_page_is_markup_of_its_own_without_scripts_of_others():
    text = TEMPLATES.render(make_api_page({"info": {"title": "<i>", "version": "1"}, "paths": PATHS}))
    assert "<i>" not in text
    assert "<b>nothing" not in text
    assert "http-equiv" not in text
    assert 'src="http' not in text
    assert 'href="http' not in text
