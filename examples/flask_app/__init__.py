"""Flask with a scoped session; the tenant is part of the path.

flask --app examples.flask_app.app run
"""
