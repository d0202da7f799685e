"""Train a support vector machine on the iris data, log how good it is, and save the model."""

import argparse

import joblib
from azureml.core import Run
from sklearn.datasets import load_iris
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import learning_curve, train_test_split
from sklearn.svm import SVC

parser = argparse.ArgumentParser()
parser.add_argument("--kernel", type=str, default="linear", help="kernel type of the classifier")
parser.add_argument("--penalty", type=float, default=1.0, help="penalty of the error term")
args = parser.parse_args()

run = Run.get_context()
features, labels = load_iris(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(features, labels, random_state=0)
print(f"{len(train_x)} flowers to learn from, {len(test_x)} to test with")

model = SVC(kernel=args.kernel, C=args.penalty)
sizes, _, scores = learning_curve(model, train_x, train_y, cv=5, train_sizes=[0.2, 0.4, 0.6, 0.8, 1.0])
for size, score in zip(sizes, scores.mean(axis=1)):  # noqa: B905 - strict came with Python 3.10
    print(f"with {size:3d} flowers: {score:.3f}")
    run.log("cross-validated accuracy", score, step=int(size))

model.fit(train_x, train_y)
accuracy = model.score(test_x, test_y)
print(f"accuracy on the test set: {accuracy:.3f}")
run.log("accuracy", accuracy)
run.log_confusion_matrix(
    "confusion",
    {
        "schema_type": "confusion_matrix",
        "schema_version": "1.0.0",
        "data": {
            "class_labels": ["setosa", "versicolor", "virginica"],
            "matrix": confusion_matrix(test_y, model.predict(test_x)).tolist(),
        },
    },
)

joblib.dump(model, "outputs/model.joblib")
