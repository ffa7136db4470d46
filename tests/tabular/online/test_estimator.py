"""ODML as scikit-learn sees it."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from tupelo.tabular import ODML


def not_applicable(estimator):
    """The table of one check has a row of zeros, which cannot be brought to unit length."""
    if estimator.normalize is None:
        return {}
    return {"check_estimators_dtypes": "refuses rows of zeros while normalize='l2'"}


@parametrize_with_checks(
    [
        ODML(),
        ODML(normalize=None),
        ODML(n_layers=1, layer="moml", engine="numpy", normalize=None),
    ],
    expected_failed_checks=not_applicable,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
